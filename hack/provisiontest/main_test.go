// Package provisiontest turns bare machines with systemd, of hack/machines, into nodes by
// hack/provision.sh, and uses, reboots and clears them.
package provisiontest

import (
	"testing"

	"github.com/glustervol/glustervol/hack/testmachine"
)

func TestMain(m *testing.M) { testmachine.Main(m) }
