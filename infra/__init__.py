"""What runs around the library: set-up, images, charts and local services. Not part of the wheel."""
