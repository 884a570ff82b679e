//! What the bytes of a queue mean: frames, records, lease sectors, segment names, replay. Touches no world.
