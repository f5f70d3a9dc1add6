package android.widget;

public class ImageView extends android.view.View {
    public ImageView(android.content.Context context) {}

    public boolean getAdjustViewBounds() { return false; }

    public void setAdjustViewBounds(boolean adjustViewBounds) {}

    public void setImageBitmap(android.graphics.Bitmap bm) {}
}
