"""What `klinenode doctor` concludes from what probes have found: pure rules, one function per check."""
