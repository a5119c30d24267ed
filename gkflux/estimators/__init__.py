"""From correlation sums and spectra to a thermal conductivity, in more than one way."""
