# A comment before anything else.

FROM scratch

# Another one, and an indented one.
  # indented
COPY hello /hello

