"""What people have recorded, read for replay: each kind of file in a file of its own."""
