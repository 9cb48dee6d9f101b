"""What the artifact's command line can be asked to do, one file each."""
