"""What trainers read: data sets, chat templates, tokens."""
