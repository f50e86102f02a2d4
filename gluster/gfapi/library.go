package gfapi

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"github.com/ebitengine/purego"
)

// ErrUnavailable is in the chain of Load's error: libgfapi is not installed, or
// is too old.
var ErrUnavailable = errors.New("libgfapi cannot be used")

// soName is the library's ABI, the same from Gluster 3.4 on; which functions it
// has tells how old it is.
const soName = "libgfapi.so.0"

// library are the addresses of the functions.
type library struct {
	new              uintptr
	setVolfileServer uintptr
	setLogging       uintptr
	setXlatorOption  uintptr
	init             uintptr
	getVolfile       uintptr
	fini             uintptr
	lookupat         uintptr
	hClose           uintptr
	mkdir            uintptr
	mknod            uintptr
	creatOpen        uintptr
	open             uintptr
	anonymousRead    uintptr
	opendir          uintptr
	unlink           uintptr
	rename           uintptr
	setattrs         uintptr
	statfs           uintptr
	read             uintptr
	write            uintptr
	close            uintptr
	readdir          uintptr
	closedir         uintptr
	errnoLocation    uintptr
	mallopt          uintptr
}

// The C library gives each of many threads an arena of memory of its own, which grows and
// is not given back. Two are enough for what waits for the network most of the time; those
// that threads have taken before the library is loaded stay.
const (
	arenaMax = -8 // M_ARENA_MAX of malloc.h
	arenas   = 2
)

// load loads the library once: it cannot be unloaded, its threads run on.
var load = sync.OnceValues(func() (*library, error) {
	// dlerror(3) tells of the thread's own calls, and purego asks it in a call of its own.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen(soName, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("%w: %w; install glusterfs-client, or the package that your distribution has it in", ErrUnavailable, err)
	}
	var l library
	for name, address := range map[string]*uintptr{
		"glfs_new":                &l.new,
		"glfs_set_volfile_server": &l.setVolfileServer,
		"glfs_set_logging":        &l.setLogging,
		"glfs_set_xlator_option":  &l.setXlatorOption,
		"glfs_init":               &l.init,
		"glfs_get_volfile":        &l.getVolfile,
		"glfs_fini":               &l.fini,
		"glfs_h_lookupat":         &l.lookupat,
		"glfs_h_close":            &l.hClose,
		"glfs_h_mkdir":            &l.mkdir,
		"glfs_h_mknod":            &l.mknod,
		"glfs_h_creat_open":       &l.creatOpen,
		"glfs_h_open":             &l.open,
		"glfs_h_anonymous_read":   &l.anonymousRead,
		"glfs_h_opendir":          &l.opendir,
		"glfs_h_unlink":           &l.unlink,
		"glfs_h_rename":           &l.rename,
		"glfs_h_setattrs":         &l.setattrs,
		"glfs_h_statfs":           &l.statfs,
		"glfs_read":               &l.read,
		"glfs_write":              &l.write,
		"glfs_close":              &l.close,
		"glfs_readdir_r":          &l.readdir,
		"glfs_closedir":           &l.closedir,
		// Of the C library, which libgfapi brings along.
		"__errno_location": &l.errnoLocation,
		"mallopt":          &l.mallopt,
	} {
		if *address, err = purego.Dlsym(handle, name); err != nil {
			return nil, fmt.Errorf("%w: it has no %s; Gluster 10 or later has", ErrUnavailable, name)
		}
	}
	limit := arenaMax                                            // a variable: a constant below 0 is no uintptr
	_, _, _ = purego.SyscallN(l.mallopt, uintptr(limit), arenas) // what it does not do costs memory alone
	return &l, nil
})

// Load loads the library. The error, if any, matches ErrUnavailable.
func Load() error {
	_, err := load()
	return err
}

// call calls a function that returns an int or a size, -1 for an error.
//
//go:uintptrescapes
func (l *library) call(function uintptr, args ...uintptr) (int, error) {
	// errno belongs to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	result, _, _ := purego.SyscallN(function, args...)
	if int32(result) == -1 {
		return -1, l.errno()
	}
	return int(result), nil
}

// create calls a function that returns a pointer, NULL for an error.
//
//go:uintptrescapes
func (l *library) create(function uintptr, args ...uintptr) (uintptr, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	result, _, _ := purego.SyscallN(function, args...)
	if result == 0 {
		return 0, l.errno()
	}
	return result, nil
}

// errno is why the last call on this thread failed. libgfapi leaves it 0 for
// some failures.
func (l *library) errno() error {
	location, _, _ := purego.SyscallN(l.errnoLocation)
	if errno := **(**int32)(unsafe.Pointer(&location)); errno != 0 {
		return syscall.Errno(errno)
	}
	return syscall.EIO
}

// cString keeps a string where C can read it, until release.
type cString struct {
	bytes  []byte
	pinner *runtime.Pinner
}

// newCString copies a string for C. One with a NUL in it would be cut off there.
func newCString(s string) (cString, error) {
	bytes, err := syscall.ByteSliceFromString(s)
	if err != nil {
		return cString{}, err
	}
	c := cString{bytes: bytes, pinner: new(runtime.Pinner)}
	c.pinner.Pin(&bytes[0])
	return c, nil
}

func (c cString) pointer() uintptr { return uintptr(unsafe.Pointer(&c.bytes[0])) }

func (c cString) release() { c.pinner.Unpin() }
