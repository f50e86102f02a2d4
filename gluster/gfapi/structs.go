package gfapi

import "syscall"

// Stat is struct stat of glibc, which on amd64 and arm64 is the kernel's own.
type Stat = syscall.Stat_t

// statvfs is struct statvfs of glibc (bits/statvfs.h) on 64-bit Linux.
type statvfs struct {
	Bsize, Frsize, Blocks, Bfree, Bavail, Files, Ffree, Favail, Fsid, Flag, Namemax uint64

	_ [6]int32
}

// dirent is struct dirent of glibc (bits/dirent.h) on 64-bit Linux.
type dirent struct {
	Ino    uint64
	Off    int64
	Reclen uint16
	Type   uint8
	Name   [256]byte
}
