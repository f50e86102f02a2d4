package mount

// OldKernel has mounts be made as by a kernel that cannot put them beneath others,
// until restore.
func OldKernel() (restore func()) {
	mountBeneath = false
	return func() { mountBeneath = true }
}
