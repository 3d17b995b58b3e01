"""Ray jobs, one file each: flags in, three calls, a printed summary."""
