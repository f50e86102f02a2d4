package gfapi

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"unsafe"
)

// Volume is a connection to a Gluster volume: glfs_t.
type Volume struct {
	*library
	glfs uintptr
}

// Log levels (glusterfs/logging.h, gf_loglevel_t).
const (
	LogError   = 4
	LogWarning = 5
	LogInfo    = 7
	LogDebug   = 8
)

// New prepares a connection: glfs_new. Open it with Init, and let go of it with
// Fini, also when Init fails. There is no letting go of one without Init. ENOMEM:
// out of memory. EINVAL: not a volume's name.
func New(volume string) (*Volume, error) {
	l, err := load()
	if err != nil {
		return nil, err
	}
	name, err := newCString(volume)
	if err != nil {
		return nil, err
	}
	defer name.release()
	glfs, err := l.create(l.new, name.pointer())
	if err != nil {
		return nil, err
	}
	return &Volume{library: l, glfs: glfs}, nil
}

// AddServer names a host to get the volume file from: glfs_set_volfile_server.
// Called again, it adds one that is asked when those before do not answer. To be
// called before Init. EINVAL: not a port.
func (v *Volume) AddServer(host string, port int) error {
	transport, err := newCString("tcp")
	if err != nil {
		return err
	}
	defer transport.release()
	server, err := newCString(host)
	if err != nil {
		return err
	}
	defer server.release()
	_, err = v.call(v.setVolfileServer, v.glfs, transport.pointer(), server.pointer(), uintptr(port))
	return err
}

// SetLog has the library log to a file from a level on: glfs_set_logging. The file
// is opened here, for appending, and until Fini. Errors are those of open(2).
func (v *Volume) SetLog(file string, level int) error {
	name, err := newCString(file)
	if err != nil {
		return err
	}
	defer name.release()
	_, err = v.call(v.setLogging, v.glfs, name.pointer(), uintptr(level))
	return err
}

// SetOption sets an option of the translators that match a pattern:
// glfs_set_xlator_option. To be called before Init; whether there is such an
// option is not checked.
func (v *Volume) SetOption(translator, key, value string) error {
	var words [3]cString
	for i, word := range []string{translator, key, value} {
		c, err := newCString(word)
		if err != nil {
			return err
		}
		defer c.release()
		words[i] = c
	}
	_, err := v.call(v.setXlatorOption, v.glfs, words[0].pointer(), words[1].pointer(), words[2].pointer())
	return err
}

// Init connects: glfs_init, which may be called once. It returns when the volume
// file is here and the bricks have been tried. ENOENT: the servers know no such
// volume. ENOTCONN: no server answers. EIO: no brick answers. After any of these
// the library goes on trying, every 3 s, and Root succeeds when it has succeeded.
func (v *Volume) Init() error {
	_, err := v.call(v.init, v.glfs)
	return err
}

// Volfile is the volume file that the servers have given: glfs_get_volfile. It is there
// as soon as one of them has answered, whether bricks do or not; "" before. To be called
// behind Init.
//
// The first call has no room and is told how much it takes. The second has exactly that:
// the library copies as much as there is room (Gluster 10.3, api/src/glfs-mgmt.c), also
// from behind the end of a shorter file.
func (v *Volume) Volfile() (string, error) {
	missing, err := v.call(v.getVolfile, v.glfs, 0, 0)
	if err != nil || missing >= 0 {
		return "", err
	}
	buffer := make([]byte, -missing)
	n, err := v.call(v.getVolfile, v.glfs, uintptr(unsafe.Pointer(&buffer[0])), uintptr(len(buffer)))
	if err == nil && n < 0 {
		err = syscall.EAGAIN // it has just grown
	}
	return cText(buffer), err
}

// Fini ends the connection and frees what it can: glfs_fini. With Gluster 10 it
// takes up to 11 s and leaks up to 2 MB. No other call on the volume may be under
// way, nor follow. Its errors mean nothing: all that can be freed is.
//
// Init must have been called, whatever it returned: glfs_new starts a timer of 120 s,
// which glfs_fini ends only behind glfs_init. Without, it goes off in memory that is
// freed, and the process ends by SIGSEGV (Gluster 10.3, api/src/glfs.c).
func (v *Volume) Fini() error {
	_, err := v.call(v.fini, v.glfs)
	return err
}

// Object is a file or directory, whatever its name is now: struct glfs_object. It
// has to be closed once no call uses it.
type Object struct {
	volume  *Volume
	pointer uintptr
}

// Root is the volume's root directory: glfs_h_lookupat of "/". EIO: Init has not
// connected yet.
func (v *Volume) Root() (*Object, error) {
	object, _, err := v.lookup(0, "/")
	return object, err
}

// Lookup finds a name in a directory and does not follow a symlink:
// glfs_h_lookupat with follow 0. It returns a new Object. ENOENT: no such name.
// ENOTDIR: o is not a directory.
func (o *Object) Lookup(name string) (*Object, Stat, error) {
	if err := checkName(name); err != nil {
		return nil, Stat{}, err
	}
	return o.volume.lookup(o.pointer, name)
}

// Meta opens a file of what the library tells of itself, by its path below /.meta
// of the volume: "graphs/active/NAME/private" is what the translator NAME knows. No
// brick is asked, but one must have answered since Init.
func (v *Volume) Meta(path string) (*File, error) {
	object, _, err := v.lookup(0, "/.meta/"+path)
	if err != nil {
		return nil, err
	}
	file, err := object.Open()
	return file, errors.Join(err, object.Close())
}

func (v *Volume) lookup(parent uintptr, name string) (*Object, Stat, error) {
	path, err := newCString(name)
	if err != nil {
		return nil, Stat{}, err
	}
	defer path.release()
	stat := new(Stat)
	object, err := v.create(v.lookupat, v.glfs, parent, path.pointer(), uintptr(unsafe.Pointer(stat)), 0)
	if err != nil {
		return nil, Stat{}, err
	}
	return &Object{volume: v, pointer: object}, *stat, nil
}

// checkName refuses what libgfapi would resolve as a path.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return syscall.EINVAL
	}
	return nil
}

// Close lets go of the object: glfs_h_close. It does not fail.
func (o *Object) Close() error {
	_, err := o.volume.call(o.volume.hClose, o.pointer)
	return err
}

// Mkdir makes a directory in this one: glfs_h_mkdir. It returns a new Object, and
// its attributes. The umask does not count. EEXIST: the name is there. ENOSPC,
// EDQUOT: no room.
func (o *Object) Mkdir(name string, mode uint32) (*Object, Stat, error) {
	path, err := namePointer(name)
	if err != nil {
		return nil, Stat{}, err
	}
	defer path.release()
	stat := new(Stat)
	object, err := o.volume.create(o.volume.mkdir, o.volume.glfs, o.pointer, path.pointer(), uintptr(mode), uintptr(unsafe.Pointer(stat)))
	if err != nil {
		return nil, Stat{}, err
	}
	return &Object{volume: o.volume, pointer: object}, *stat, nil
}

// Mknod makes an empty file in this directory: glfs_h_mknod. It returns a new Object, and its
// attributes. Other than Create it opens nothing, which spares the bricks half the work.
// EEXIST: the name is there. ENOSPC, EDQUOT: no room.
func (o *Object) Mknod(name string, mode uint32) (*Object, Stat, error) {
	path, err := namePointer(name)
	if err != nil {
		return nil, Stat{}, err
	}
	defer path.release()
	stat := new(Stat)
	object, err := o.volume.create(o.volume.mknod, o.volume.glfs, o.pointer, path.pointer(), uintptr(syscall.S_IFREG|mode), 0, uintptr(unsafe.Pointer(stat)))
	if err != nil {
		return nil, Stat{}, err
	}
	return &Object{volume: o.volume, pointer: object}, *stat, nil
}

func namePointer(name string) (cString, error) {
	if err := checkName(name); err != nil {
		return cString{}, err
	}
	return newCString(name)
}

// Create makes a file in this directory, which must not exist, and opens it for
// writing: glfs_h_creat_open with O_EXCL and O_SYNC, so that what is written is on the
// disks of the bricks when Write returns (write-behind leaves such files alone:
// xlators/performance/write-behind/src/write-behind.c, wb_writev). It returns a new File, and its attributes.
// EEXIST: the name is there. ENOSPC, EDQUOT: no room.
func (o *Object) Create(name string, mode uint32) (*File, Stat, error) {
	path, err := namePointer(name)
	if err != nil {
		return nil, Stat{}, err
	}
	defer path.release()
	stat, fd := new(Stat), new(uintptr)
	object, err := o.volume.create(o.volume.creatOpen, o.volume.glfs, o.pointer, path.pointer(),
		syscall.O_CREAT|syscall.O_EXCL|syscall.O_WRONLY|syscall.O_SYNC, uintptr(mode), uintptr(unsafe.Pointer(stat)), uintptr(unsafe.Pointer(fd)))
	if err != nil {
		return nil, Stat{}, err
	}
	_, _ = o.volume.call(o.volume.hClose, object) // the file is held by its descriptor
	return &File{volume: o.volume, fd: *fd}, *stat, nil
}

// Unlink removes a name of this directory, also that of an empty directory:
// glfs_h_unlink. ENOENT: no such name. ENOTEMPTY: a directory with something in
// it. ENOTDIR, EISDIR: the name was a file when it was last looked up and is a
// directory now, or the other way round; look it up and try again.
func (o *Object) Unlink(name string) error {
	path, err := namePointer(name)
	if err != nil {
		return err
	}
	defer path.release()
	_, err = o.volume.call(o.volume.unlink, o.volume.glfs, o.pointer, path.pointer())
	return err
}

// Rename moves a name of this directory to a name of another, and replaces a file
// or an empty directory there: glfs_h_rename. ENOENT: no such name. ENOTEMPTY,
// EEXIST: a directory with something in it has the new name.
func (o *Object) Rename(name string, to *Object, newName string) error {
	from, err := namePointer(name)
	if err != nil {
		return err
	}
	defer from.release()
	target, err := namePointer(newName)
	if err != nil {
		return err
	}
	defer target.release()
	_, err = o.volume.call(o.volume.rename, o.volume.glfs, o.pointer, from.pointer(), to.pointer, target.pointer())
	return err
}

// Which attributes SetAttributes sets (glfs-handles.h).
const (
	SetMode = 0x1
	SetUID  = 0x2
	SetGID  = 0x4
)

// SetAttributes sets those of stat that valid names: glfs_h_setattrs. A symlink is
// not followed. EPERM, ENOSPC, EDQUOT: the bricks refuse.
func (o *Object) SetAttributes(stat Stat, valid int) error {
	s := &stat
	_, err := o.volume.call(o.volume.setattrs, o.volume.glfs, o.pointer, uintptr(unsafe.Pointer(s)), uintptr(valid))
	return err
}

// Usage is the size of a file system, and what of it is free for others than root, in
// bytes and in inodes. Inodes are 0 where the file system does not count them.
type Usage struct {
	Total, Free, Inodes, FreeInodes uint64
}

// Usage is that of the file system that holds the object: glfs_h_statfs. The bricks
// answer, also when the object itself is answered from memory.
func (o *Object) Usage() (Usage, error) {
	s := new(statvfs)
	if _, err := o.volume.call(o.volume.statfs, o.volume.glfs, o.pointer, uintptr(unsafe.Pointer(s))); err != nil {
		return Usage{}, err
	}
	return Usage{Total: s.Blocks * s.Frsize, Free: s.Bavail * s.Frsize, Inodes: s.Files, FreeInodes: s.Favail}, nil
}

// Open opens a file for reading: glfs_h_open. It returns a new File. EISDIR: the
// object is a directory. EINVAL: it is neither a file nor a directory.
func (o *Object) Open() (*File, error) {
	fd, err := o.volume.create(o.volume.open, o.volume.glfs, o.pointer, syscall.O_RDONLY)
	if err != nil {
		return nil, err
	}
	return &File{volume: o.volume, fd: fd}, nil
}

// ReadAt implements io.ReaderAt for a file that is not open: glfs_h_anonymous_read, into p
// itself. Who knows the file's size, and asks for no more, needs no request to see its end.
func (o *Object) ReadAt(p []byte, offset int64) (read int, err error) {
	for read < len(p) {
		rest := p[read:]
		n, err := o.volume.call(o.volume.anonymousRead, o.volume.glfs, o.pointer, uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)), uintptr(offset)+uintptr(read))
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			return read, err
		}
		read += n
	}
	return read, nil
}

// File is an open file: glfs_fd_t. It has to be closed once no call uses it.
type File struct {
	volume *Volume
	fd     uintptr
}

// Read implements io.Reader: glfs_read, into p itself.
func (f *File) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := f.volume.call(f.volume.read, f.fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), 0)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return max(n, 0), err
}

// Write implements io.Writer: glfs_write, from p itself. ENOSPC, EDQUOT: no room,
// which Close may be the first to tell.
func (f *File) Write(p []byte) (written int, err error) {
	for written < len(p) {
		rest := p[written:]
		n, err := f.volume.call(f.volume.write, f.fd, uintptr(unsafe.Pointer(&rest[0])), uintptr(len(rest)), 0)
		if err != nil {
			return written, err
		}
		written += n
	}
	return written, nil
}

// Close closes the file: glfs_close. Its error may be that of an earlier Write.
func (f *File) Close() error {
	_, err := f.volume.call(f.volume.close, f.fd)
	return err
}

// Entry is a name in a directory.
type Entry struct {
	Name string
	// Type is one of the DT_ constants of dirent.h, DT_UNKNOWN among them.
	Type uint8
}

// Entries lists the directory, without "." and "..", and calls each with its
// entries until that returns false: glfs_h_opendir, glfs_readdir_r, glfs_closedir.
func (o *Object) Entries(each func(Entry) bool) error {
	fd, err := o.volume.create(o.volume.opendir, o.volume.glfs, o.pointer)
	if err != nil {
		return err
	}
	defer func() { _, _ = o.volume.call(o.volume.closedir, fd) }()
	entry, result := new(dirent), new(uintptr)
	for {
		if _, err := o.volume.call(o.volume.readdir, fd, uintptr(unsafe.Pointer(entry)), uintptr(unsafe.Pointer(result))); err != nil {
			return err
		}
		if *result == 0 {
			return nil
		}
		name := cText(entry.Name[:])
		if name == "." || name == ".." {
			continue
		}
		if !each(Entry{Name: name, Type: entry.Type}) {
			return nil
		}
	}
}

func cText(b []byte) string {
	text, _, _ := strings.Cut(string(b), "\x00")
	return text
}
