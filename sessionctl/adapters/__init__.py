"""The only IO: one module or package per thing sessionctl talks to."""
