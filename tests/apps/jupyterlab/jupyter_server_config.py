from jupyter_server.auth import passwd

c.IdentityProvider.cookie_name = "jupyter-session"
c.PasswordIdentityProvider.hashed_password = passwd("correct horse")
