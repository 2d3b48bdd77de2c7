"""What all trainers share: settings, folders, progress, cards."""
