"""Skeletal age from whole-body bone scans. Start at bae/README.md."""
