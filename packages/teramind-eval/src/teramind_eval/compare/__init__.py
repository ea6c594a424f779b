"""Many runs side by side: the reports of each read back, one table, and plots against what the runs differ in."""
