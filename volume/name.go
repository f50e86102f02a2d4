package volume

import (
	"fmt"
	"regexp"
)

// maxName leaves room for what the catalog appends within the 255 bytes of a
// file name.
const maxName = 200

// validName is Docker's pattern of names (moby, daemon/names), in which a
// single character is fine too.
var validName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// CheckName says what is wrong with the name of a volume, if anything. Docker
// itself passes any name on to a volume driver.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("the volume's name is empty")
	case len(name) > maxName:
		return fmt.Errorf("volume name %.40q… has %d characters, %d are allowed", name, len(name), maxName)
	case !validName.MatchString(name):
		return fmt.Errorf("volume name %q: only letters, digits, '_', '.' and '-' are allowed, and it begins with a letter or a digit", name)
	}
	return nil
}
