"""Which bytes did this identity provider sign, and which certificates do we trust for it now?"""
