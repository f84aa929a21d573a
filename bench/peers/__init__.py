"""What DuxNet is measured against: other programs, started and ended here."""
