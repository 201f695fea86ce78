"""What the Config screen shows and does: the settings as a form, the file as it will be written."""
