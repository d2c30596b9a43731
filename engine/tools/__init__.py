"""What tools for files are made of: settings, dry run, job folder, journal by which all can be undone. No torch."""
