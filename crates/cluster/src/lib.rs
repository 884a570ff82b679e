//! The takeover protocol as pure machines: instance, staleness, takeover, hand-back, heartbeat bytes. Touches no world.
