"""Other projects' Python names for the same thing, so that their scripts run on ours."""
