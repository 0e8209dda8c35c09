"""What several tests share: worlds, pictures, servers, annotators."""
