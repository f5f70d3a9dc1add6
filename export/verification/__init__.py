"""Does a file compute what its model does?"""
