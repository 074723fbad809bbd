"""Image sets with class-disjoint splits: by name, from files, from folders."""
