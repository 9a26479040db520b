FROM scratch
LABEL org.opencontainers.image.title="Test image" \
      org.opencontainers.image.version="1.0"
LABEL "quoted key"="quoted value"
LABEL legacy value
