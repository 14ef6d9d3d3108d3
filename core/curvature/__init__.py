"""Second derivatives: products, spectra, critical points, stability."""
