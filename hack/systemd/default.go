// Package systemd has what the driver's systemd units take, for 'glustervol init', which
// writes it where it is missing.
package systemd

import _ "embed"

// Default is the template of /etc/default/glustervol.
//
//go:embed glustervol.default
var Default string
