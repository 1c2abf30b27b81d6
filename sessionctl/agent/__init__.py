"""The server in each workspace's pod: runs chat messages, keeps the conversation, reports activity (DESIGN 7)."""
