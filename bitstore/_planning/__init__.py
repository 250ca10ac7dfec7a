"""What a job will come to, before it is begun: hits of each tier, requests, bytes, money and hours."""
