"""The HTTP face: routes, parameters, errors and the page cache."""
