"""What others use instead: the same routes and the same work, each as its documentation shows it."""
