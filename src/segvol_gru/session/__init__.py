"""A session: what a user did to one volume, and how to undo, redo, save and resume it."""
