"""A field on its way from points to a map: its batches, what is known of points and phases, its end."""
