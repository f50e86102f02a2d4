package volume

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const damagedSuffix = ".damaged"

// setAside moves what is damaged on this node out of the way, to a name that
// nothing has, and returns that. It may be all that is left to mend it by.
func setAside(file string) (aside string, err error) {
	for i := 0; ; i++ {
		aside = file + damagedSuffix
		if i > 0 {
			aside = fmt.Sprintf("%s.%d", aside, i)
		}
		if _, err := os.Lstat(aside); errors.Is(err, fs.ErrNotExist) {
			return aside, os.Rename(file, aside)
		} else if err != nil {
			return "", err
		}
	}
}
