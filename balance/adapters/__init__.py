"""The real thing behind each port: hosts, Ray, HTTP, files, SQL, brokers."""
