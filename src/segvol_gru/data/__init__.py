"""Files in and out (`io`), intensity windows (`preprocess`), masks at rest (`sparse`).

Numpy, nibabel and SimpleITK only: no torch here, and nothing that knows of a session.
"""
