FROM --platform=linux/arm64 registry.example.com:5000/team/app:1.0@sha256:24454f830cdb571e2c4ad15481119c43b3cafd48dd869a9b2945d1036d1dc68d AS pinned-arm64
RUN uname -m
