"""Image measures and the streamed, mergeable statistics they feed."""
