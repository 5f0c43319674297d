"""Certificates: read with care, examined before they are served, kept where only the node reads them."""

from harbor.certificates.accept import Accepted, accept, accept_files, accept_pair, again
from harbor.certificates.clients import check_clients, examine_lists
from harbor.certificates.doctor import examine, examine_chain
from harbor.certificates.files import Listing, listing, read_in
from harbor.certificates.keep import Keep
from harbor.certificates.pem import Pair, read_chain, read_pair
from harbor.certificates.self_signed import make_self_signed

__all__ = [
    "Accepted",
    "Keep",
    "Listing",
    "Pair",
    "accept",
    "accept_files",
    "accept_pair",
    "again",
    "check_clients",
    "examine",
    "examine_chain",
    "examine_lists",
    "listing",
    "make_self_signed",
    "read_chain",
    "read_in",
    "read_pair",
]
