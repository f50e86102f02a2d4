package gluster

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

const (
	// maxReplaced is how often in a row another node may have replaced what a name
	// stood for, until that is the answer.
	maxReplaced = 20
	// maxDivided is how often in a row the bricks may have been divided about it.
	maxDivided = 5
)

// errReplaced is the answer about a name that stands for another file every time.
// It is not ENOENT, which would say that there is none.
var errReplaced = fmt.Errorf("%w: it is replaced all the time", syscall.ESTALE)

// settled calls fn, which looks a name up, tells whether it found it, and uses what
// it stands for. Another node may replace or remove that at any moment. If it is not
// on the store any more by the time it is used, which Gluster tells as ESTALE or
// ENOENT, the name is looked up once more: it may stand for another file, or for
// none. Only a look-up says that there is none. ENOTCONN is ambiguous: there is no
// quorum when bricks cannot be reached, but neither when some of them have the file
// still and others have it no more.
func settled(fn func() (found bool, err error)) error {
	for attempt := 1; ; attempt++ {
		found, err := fn()
		switch {
		case errors.Is(err, syscall.ENOTCONN) && attempt < maxDivided:
		case errors.Is(err, syscall.ESTALE), found && errors.Is(err, fs.ErrNotExist):
			if attempt >= maxReplaced {
				return errReplaced
			}
		default:
			return err
		}
	}
}
