"""Errors of the protocol package.

`LocalProtocolError` means that we misused the protocol: a bug of ours. `RemoteProtocolError` means
that the peer broke it; parsers raise only this one, whatever bytes come. They are never mixed.
"""


class WhatsAppError(Exception):
    """Base of every error that leaves this package."""


class LocalProtocolError(WhatsAppError):
    """Our side asked for something the protocol does not allow."""


class RemoteProtocolError(WhatsAppError):
    """The peer sent something the protocol does not allow."""


class HandshakeError(RemoteProtocolError):
    """The Noise handshake or the certificate chain did not verify."""


class ResumptionError(RemoteProtocolError):
    """Resuming failed: a full handshake, on a new connection, may still verify."""


class PairingError(RemoteProtocolError):
    """A `pair-success` did not verify.

    Attributes:
        code: error code for the `<error>` reply, 401 or 500.
        text: its text, for example "hmac-mismatch".
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"pair-success refused: {text}")
        self.code = code
        self.text = text


class DecryptError(RemoteProtocolError):
    """An incoming Signal message could not be decrypted."""


class NoSessionError(DecryptError):
    """There is no session with this sender."""


class UnknownPreKeyError(DecryptError):
    """The message was made for a prekey we do not hold (any more)."""


class InvalidKeyError(DecryptError):
    """A public key in the message is malformed or unusable."""


class DuplicateMessageError(DecryptError):
    """The message key of this counter was used already: a repetition."""


class BadMacError(DecryptError):
    """No session state verified the message's MAC."""


class FutureMessageError(DecryptError):
    """The counter lies too far in the future."""
