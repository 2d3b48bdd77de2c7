"""Statistics of a judge, pure: outcomes in, figures with intervals out."""
