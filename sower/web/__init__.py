"""What browsers are served: sower.js, the demo, the dashboard, and what those ask the daemon for."""
