"""What a file of the archive is, and the files inside a zip file.

``kinds`` names a file's format by its content, ``zips`` hands out the members of a zip file one
by one, ``bounds`` says how large anything may be. Nothing is decoded and nothing is written here.
"""
