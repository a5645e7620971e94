"""How one exchange is reached: websockets at its socket address, GET requests at its REST address."""

from typing import Final

from app.domain.venue import Request
from app.outbound import Destination
from app.ports.errors import UpstreamError
from app.ports.venue_io import Answer, VenueLost
from app.runtime import Runtime
from infra.net.http import HttpClient, Transport, WeightOf, no_weight
from infra.net.websocket import FAILURES, open_websocket
from infra.net.websocket_messages import MessageConnection

FRAME_BYTES_MAX: Final = 8 * 1024 * 1024  # Deribit's first frame of a book holds every level, about 1 MB
ANSWER_BYTES_MAX: Final = 16 * 1024 * 1024  # OKX's list of spot instruments has 2 MB


class NetVenueSocket:
    """A websocket of an exchange."""

    def __init__(self, connection: MessageConnection) -> None:
        self._connection = connection

    async def send(self, text: str) -> None:
        """Send a text frame. Raises VenueLost."""
        try:
            await self._connection.send(text)
        except FAILURES as error:
            raise VenueLost(_why(error)) from error

    async def receive(self) -> list[bytes]:
        """The frames that came since the last call. Raises VenueLost when there will be none."""
        try:
            return await self._connection.messages()
        except FAILURES as error:
            raise VenueLost(_why(error)) from error

    async def close(self) -> None:
        """End the connection at once; a peer that is silent is not waited for."""
        self._connection.transport.abort()
        await self._connection.wait_closed()


class NetVenueIo:
    """Sockets below `sockets`, requests below `rest`; both are scheme, host and port."""

    def __init__(
        self,
        rest: Destination,
        sockets: Destination,
        runtime: Runtime,
        *,
        used_weight: WeightOf = no_weight,
        transport: Transport | None = None,
    ) -> None:
        self._sockets = sockets
        self._clock = runtime.clock
        self._http = HttpClient(
            rest.url, runtime.clock, runtime.observe, egress=rest.egress, transport=transport, used_weight=used_weight
        )

    async def connect(self, route: str) -> NetVenueSocket:
        """Open a websocket at `route`. Raises VenueLost."""
        at = Destination(self._sockets.url.rstrip("/") + route, self._sockets.egress)
        try:
            connection = await open_websocket(at, self._clock, message_bytes_max=FRAME_BYTES_MAX)
        except FAILURES as error:
            raise VenueLost(f"no connection to {at.url}: {_why(error)}") from error
        return NetVenueSocket(connection)

    async def get(self, request: Request) -> Answer:
        """Send a GET. Raises VenueLost."""
        try:
            answer = await self._http.get(
                request.path, dict(request.params), weight=request.weight, bytes_max=ANSWER_BYTES_MAX
            )
        except UpstreamError as error:
            raise VenueLost(str(error)) from error
        return Answer(answer.status, answer.headers, answer.body)

    async def aclose(self) -> None:
        """Close the connections of requests."""
        await self._http.aclose()


def _why(error: BaseException) -> str:
    return f"{type(error).__name__} {error}".rstrip()
