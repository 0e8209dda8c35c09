"""What data from outside may make ndec read: files of its own folder, and hosts that a person allows."""
