"""Routes translate and do not decide: body in, one core call, body out."""
