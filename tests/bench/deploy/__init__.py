"""Deploys of this project beside a play in Ansistrano's steps, by the clock and by what visitors lose."""
