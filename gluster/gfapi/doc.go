// Package gfapi binds the part of libgfapi, Gluster's client library in C, that
// gluster.FS needs. It loads libgfapi.so.0 at run time, so that the program is
// built without cgo and runs where the library is not installed.
//
// The binding is thin: one method a C function, errors as errno, no deadlines
// (no function of libgfapi takes one) and no policy. All objects of a Volume may
// be used by many goroutines at once; a call holds its thread until it returns.
//
// Errors are the syscall.Errno that the C function has set; EIO stands for those
// failures that libgfapi gives no errno for. ENOTCONN can come from any call: too
// few bricks answer. So can ESTALE, when the object is not on the volume any more,
// and EINVAL, for a name with a slash or a NUL in it.
//
// Memory: Go's memory is lent to C for the length of a call, and libgfapi keeps no
// pointer to it (strings it copies). What C returns is C's own memory: a Volume
// until Fini, an Object or File until its Close.
//
// Files are reached by handles of directories and a single name in them, which
// libgfapi does not resolve further: no symlink is followed on the way.
package gfapi
