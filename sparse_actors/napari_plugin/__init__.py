"""Opens runs in napari; napari finds it by the entry point `napari.manifest` and is not imported here."""
