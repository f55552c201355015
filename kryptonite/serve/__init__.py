"""A run as an HTTP service: two photos in, one answer out; and the page that shows it."""
